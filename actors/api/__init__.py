"""What the gateway and the actors say to each other: requests, events of an answer, refusals, published figures.

Public: all modules.
"""
