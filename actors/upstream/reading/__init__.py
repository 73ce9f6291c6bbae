"""Reading what servers of the OpenAI API send, in every form that is known of them. Sans-IO.

Public: `response_reader`, which uses the others.
"""
