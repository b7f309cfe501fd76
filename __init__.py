"""PortraitTalk for ComfyUI."""

if __package__:  # not when a test runner or pip imports the bare folder
    from .nodes import comfy_entrypoint

    WEB_DIRECTORY = "./web"
    __all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
