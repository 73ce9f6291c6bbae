"""In-process engines: one actor for each replica and its thread, and the registry of LoRA adapters.

Public: `engine_actor.EngineActor`, `adapter_registry`.
"""
