"""ComfyUI's models, files and progress behind the core's interfaces."""
