"""How Segment Anything is trained: losses, simulated prompts, schedules, one step."""
