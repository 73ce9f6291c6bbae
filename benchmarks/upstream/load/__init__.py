"""The load process: clients and the scripted upstream in one epoll loop."""
