"""Rungs outside this process: any server that speaks the OpenAI API, as one more place where work can be sent.

Sans-IO: `unpack` and `sse` (bytes to events), `chunk` (what an event may hold), `parts`, `tool_parts`, `finish`,
`usage` and `counting` (the forms that servers have for text, calls, ends and counts), `answer` (events to outputs, and
whether the answer is whole), `question` (a call to the request's body), `replicas` (which address is next), `book`
(what runs, what waits), `failure` (what went wrong and whose fault it is). With IO: `client` (one request over httpx),
`actor` (owns one upstream).
"""
