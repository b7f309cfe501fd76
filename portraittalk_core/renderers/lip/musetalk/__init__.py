"""MuseTalk 1.5: a UNet of SD1.4's shape paints the mouth's latents in one step, hearing whisper-tiny."""
