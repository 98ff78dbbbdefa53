package compress

// quantisers keep every element, in fewer bits.
var quantisers = []maker{}
