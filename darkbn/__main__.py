"""`python -m darkbn`: the same as the `darkbn` command."""

from darkbn.cli.main import main

if __name__ == "__main__":
    main()
