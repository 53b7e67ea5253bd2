// Package cel compiles the CEL expressions that Kubernetes objects carry: of
// admission policies, of the match conditions of webhooks and of the selectors
// of devices.
//
// It owns the environments: which functions and variables an expression may
// use, what it has to evaluate to and what it may cost. They are upstream's,
// and so are the words of a refusal, which stand in what clients are told.
//
//	compiler := cel.NewCompiler()
//	program, err := compiler.Compile(expression, cel.Variables{Params: true}, cel.Bool)
//	var wrong *cel.Error
//	if errors.As(err, &wrong) { … } // the author's fault; any other error is ours
//
// The variables of a policy see each other in the order in which they were
// declared; a Scope keeps their types:
//
//	scope := compiler.Scope()
//	_, err = scope.Declare("max", "int(params.data.max)", cel.Variables{Params: true, Authorizer: true})
//	program, err = scope.Compile("object.spec.replicas <= variables.max", …)
//
// It promises that nothing is made before the first expression is compiled (an
// environment costs megabytes and milliseconds), that a Compiler and a Program
// are safe for concurrent use, and that an expression is refused rather than
// compiled when it is longer than 100,000 code points, nested deeper than 250
// levels (the limits of CEL's parser) or chains more than a few optional maps
// (a limit of our own). What a program may cost when it runs is limited as
// upstream limits it; a selector's worst case is estimated when it is compiled.
//
// An expression that was accepted once must stay acceptable: the language is
// that which upstream takes in newly written objects, and it may only grow.
//
// It refuses to read objects or schemas: object, oldObject and params have any
// type, and whether a field exists is known when the expression runs.
package cel
