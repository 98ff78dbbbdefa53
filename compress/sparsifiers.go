package compress

// sparsifiers keep some elements and drop the others.
var sparsifiers = []maker{}
