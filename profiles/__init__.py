"""What we can reach: accounts, upstream tokens, routes, deployments, the live catalog."""
