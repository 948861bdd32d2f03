"""``python -m kaggle_kit``: the command ``kk`` where it is not on the path."""

from kaggle_kit.cli import main

if __name__ == "__main__":
    main()
