//! Impresario: the open, self-hosted scheduler for browser workflows.
