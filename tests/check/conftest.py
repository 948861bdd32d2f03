from blended_case import _bases, blended

__all__ = ["_bases", "blended"]
