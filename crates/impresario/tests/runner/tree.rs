//! Ending all the processes of a run.
