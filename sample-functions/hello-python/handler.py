"""Greets whoever the body names, or the world."""

import sys

# The longest name that is greeted.
MAX_NAME_BYTES = 1024


def main() -> int:
    body = sys.stdin.buffer.read(MAX_NAME_BYTES + 1)
    if len(body) > MAX_NAME_BYTES:
        return fail(f"expected a name of at most {MAX_NAME_BYTES} bytes, got more")
    try:
        # Whatever white space there is, a greeting is one line.
        name = " ".join(body.decode().split())
    except UnicodeDecodeError:
        return fail("expected a name in UTF-8, got other bytes")
    answer(f"Hello, {name or 'world'}!")
    return 0


def answer(line: str) -> None:
    # Bytes, as the encoding of STDOUT depends on the locale.
    sys.stdout.buffer.write(line.encode() + b"\n")
    sys.stdout.buffer.flush()


def fail(line: str) -> int:
    answer(line)
    print(f"hello-python: {line}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
