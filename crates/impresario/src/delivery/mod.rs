//! The webhook outbox: sign, send, retry, record.
