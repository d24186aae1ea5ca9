//! Every mixture of phases, and the step that comes next.
