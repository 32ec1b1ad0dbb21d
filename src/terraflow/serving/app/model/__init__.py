"""The model behind the routes: its requests as tables, its answers, its maps."""
