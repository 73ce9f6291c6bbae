"""The API's description: one OpenAPI document for all addresses, made of the types of bodies and answers; its page."""
