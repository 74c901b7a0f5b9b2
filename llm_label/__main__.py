"""`python -m llm_label`: the command line."""

from llm_label.cli import main

if __name__ == "__main__":
    main()
