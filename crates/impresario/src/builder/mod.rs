//! Unpacks a deployed bundle, links the provided packages into it, and finds its workflows.
