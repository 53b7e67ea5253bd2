// Package node is the node agent: it makes the pods assigned to its node run,
// and tells the API and whoever asks on its port how they are.
//
// It owns the Node object and its Lease, the status of the node's pods, and
// everything on the machine that belongs to a pod: sandboxes, containers,
// cgroups, volumes, logs. It promises that
//
//   - each pod has one worker, which asks podstate what to do and does it; slow
//     steps of one pod delay no other pod, nor other containers of the same;
//   - statuses are written when they change and never by a timer;
//   - running pods go on when the API, the container runtime or the agent is
//     away, and are found again when it is back;
//   - a pod's object is deleted only when nothing of the pod runs any more.
//
// It refuses volumes it cannot make, and says so on the pod.
package node
