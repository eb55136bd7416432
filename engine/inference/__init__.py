"""Engines that answer chats, and the client for paid work around them. Heavy packages are imported when an engine is built."""
