"""Images ranked by what is said of them: log p(text | image), over a folder of kept features."""
