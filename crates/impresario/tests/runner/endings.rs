//! The ways in which a run without a page can end, and what it may see and say.
