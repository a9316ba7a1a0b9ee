//! The page with invented devices and an invented clock.
