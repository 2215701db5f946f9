//! Both ends of a desk.
