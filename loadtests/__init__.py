"""The load tester, `penstock load`. It sees the service from outside only: any OpenAI-compatible server will do.

`model` what is asked for (a scenario) and what came out of it (a run record). `schedule` every request of a run, made
beforehand. `client` connections and answers. `running` workers that follow a schedule, and what they measure.
"""
