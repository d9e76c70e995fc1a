//! Network namespaces, links, addresses and routes through netlink, and sockets that watch and inject frames.
