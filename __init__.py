"""PortraitTalk for ComfyUI."""

import sys

if __package__ and "folder_paths" in sys.modules:  # inside ComfyUI; not when a test runner imports the bare folder
    from .nodes import comfy_entrypoint

    WEB_DIRECTORY = "./web"
    __all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
