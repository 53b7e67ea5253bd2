// Package kube configures alerting from objects of the cluster.
//
// It owns the reading of two kinds in one namespace, kube-system unless said
// otherwise: the Secret binnacle-alerting, whose key alertmanager.yaml is an
// alerting configuration, and the ConfigMaps labelled binnacle.io/rules=true,
// each key of which is a Prometheus rule file. It follows them: a change is in
// force as soon as it is seen, a deleted object's configuration or rules go.
//
// It promises that what cannot be used leaves what was before in force, and that
// this shows in an Event on the object, a log line and the metric
// binnacle_alerting_objects_refused. A configuration file on the machine wins
// over the Secret, which is then refused in the same ways.
//
// It refuses to write the objects, and to read other namespaces: who may write
// these objects decides where notifications go.
package kube
