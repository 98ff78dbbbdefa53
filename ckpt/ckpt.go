// Package ckpt keeps named tensors on disk so that nothing is lost and nothing on disk can run code.
//
// A Tensor is a name, a type, a shape and bytes. Whatever must survive a restart is Stateful: it gives its
// tensors and takes them back. Write and Read move tensors to and from the safetensors format; Save and
// Load move a whole checkpoint folder, with a manifest that holds the SHA-256 of every file in it.
package ckpt

// A Stateful holds state that a checkpoint must carry: parameters, optimizer moments, residuals, positions.
type Stateful interface {
	// State returns the tensors as they are now. Their Data may alias live memory: write it before the next step.
	State() []Tensor
	// Load takes back what State gave. It copies. A tensor that is missing, unknown or of another type or shape
	// is an error that names the first one that differs, and then nothing has been changed.
	Load([]Tensor) error
}

// DType is an element type, named as safetensors names it.
type DType string

// The element types that Covey writes.
const (
	F32 DType = "F32"
	F64 DType = "F64"
	I64 DType = "I64"
	U64 DType = "U64"
	U8  DType = "U8"
)

// Shard says what becomes of a tensor when n workers saved it and m load it.
type Shard string

// The ways to re-shard.
const (
	// Replicated is the same on every worker: one copy is saved, all load it.
	Replicated Shard = "replicated"
	// Summed is each worker's part of a sum (residuals), of floats. Saved it has one dimension more, in front: the workers.
	// As many workers get their own parts back; of others each that owns a microshard gets an equal share of the sum, the
	// rest zeros.
	Summed Shard = "summed"
	// PerClient has a row for each client, which is a microshard, that a worker hosts (control variates); saved it has
	// those of all clients, in order. A row follows its client.
	PerClient Shard = "client"
	// Dropped is not kept: the checkpoint lists it, and it begins anew. A Stateful gets it back as State gives it when
	// Load is called.
	Dropped Shard = "dropped"
)

// Tensor is a named array, stored little-endian, row-major. An empty Shard means Replicated.
type Tensor struct {
	Name  string
	Type  DType
	Shape []int
	Data  []byte
	Shard Shard
	Piece *Piece // of a larger tensor that several workers write; nil for a whole one
}
