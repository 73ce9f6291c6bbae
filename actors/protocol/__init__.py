"""Messages between actors, and the slot through which an answer's tokens reach their reader.

Public within `actors`.
"""
