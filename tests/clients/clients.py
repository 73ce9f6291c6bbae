"""The table of clients. Versions are those that docs/clients.md speaks of."""

from tests.clients.client import Client

OPENAI, ANTHROPIC = "openai==3.52.0", "anthropic==2.14.0"
CLIENTS = (
    Client("openai", (OPENAI,), "openai_python.py", in_ci=True),
    Client("openai-websocket", (OPENAI, "websockets==17.*"), "openai_websocket.py"),
    Client("openai-npm", ("openai@7.55.0",), "openai_npm.mjs", "npm"),
    Client("anthropic", (ANTHROPIC,), "anthropic_python.py", in_ci=True),
    Client("anthropic-npm", ("@anthropic-ai/sdk@1.10.0",), "anthropic_npm.mjs", "npm"),
    Client("langchain", ("langchain-openai==1.7.4", "langchain-anthropic==1.7.10"), "langchain_clients.py"),
    # A later release was tampered with.
    Client("litellm", ("litellm[proxy]==1.106.*",), "litellm_client.py"),
    Client("openai-agents", ("openai-agents==0.24.0",), "openai_agents.py"),
    Client("pydantic-ai", ("pydantic-ai-slim[openai,anthropic]==2.68.0",), "pydantic_ai_agents.py"),
    Client("lm-eval", ("lm-eval[api]==0.4.13", "transformers==5.24.0"), "lm_eval_harness.py"),
    Client("guidellm", ("guidellm==0.8.1",), "guidellm_run.py"),
    # It needs a newer Node.js than Debian has; npm has one as a package.
    Client("promptfoo", ("promptfoo@0.123.1", "node@22.23.3"), "promptfoo_eval.mjs", "npm"),
    Client("aiperf", ("aiperf==0.13.0",), "aiperf_profile.py"),
)
