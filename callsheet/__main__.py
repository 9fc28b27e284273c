"""`python -m callsheet` is the command `callsheet`."""

from callsheet.cli import main

if __name__ == "__main__":
    main()
