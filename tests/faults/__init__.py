"""The fault matrix: real ranks are killed, stopped, starved and lied to, and one oracle judges what is left."""
