"""What a person sees of Litecast: the command line, the settings, the web application, the demo."""
