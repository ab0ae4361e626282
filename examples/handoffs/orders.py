"""An MCP server over standard input and output: a shop's orders."""

from mcp.server import MCPServer

ORDERS = {"1001": "two chairs, delivered on Monday, 180 euros", "1002": "a lamp, on its way, 35 euros"}

server = MCPServer("orders")


@server.tool()
def find_order(number: str) -> str:
    """Look up an order by its number."""
    return ORDERS.get(number, f"There is no order {number}.")


if __name__ == "__main__":
    server.run()
