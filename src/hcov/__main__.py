"""`python -m hcov`, in case the `hcov` script is not on PATH."""

from hcov._cli.main import main

if __name__ == "__main__":
    main(prog_name="hcov")
