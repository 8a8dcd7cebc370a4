"""Applications to read and run: `uvicorn examples.starlette_shop:app`."""
