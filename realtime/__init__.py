"""The live app: capture, stylize, show. Read `frames`, then `pipeline`, then `engine`."""
