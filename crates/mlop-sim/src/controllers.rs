//! Stand-ins for the controllers of Jobs, Deployments and StatefulSets.
