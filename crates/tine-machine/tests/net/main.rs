//! The network of container boxes, on real namespaces, bridges and firewall tables.

#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod publish;
#[cfg(test)]
mod reach;
#[cfg(test)]
mod world;
