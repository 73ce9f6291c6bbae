"""Answers that go on without their client, for retries with an Idempotency-Key and for streams that lost a connection.

`kept_answers.KeptAnswers` is for endpoints; it runs in the service's tree.
"""
