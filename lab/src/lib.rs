//! Private networks made of namespaces and veth, for the demo and the tests.
