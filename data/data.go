// Package data says what is learned from: data sets, how they are read, and which samples a step uses.
//
// Open reads a training set and a test set from a file or folder (IDX, LIBSVM, CSV, packed by gzip or not) or draws one
// (digits), and hashes features that are too many; Options say what cannot be guessed, and Read takes a pipe. Data that is
// wrong gives an *Error that names file, place and what would be right. SchemaOf says how the data was read, so that more
// can be read in the same way.
//
// A Dataset is samples by number: Gather copies some of them into a Batch, which its caller keeps and uses again. A
// Sampler turns (seed, epoch, step) into the sample numbers of a global batch, Slice cuts that into microshards, and
// Partition hands samples to clients. Nothing here depends on how many workers there are.
//
// Describe and Verify say what a data set holds, WriteIDX writes images, Sources and Download know where public data is.
package data

// Dataset is samples 0 to Len()-1, held in memory, immutable and safe for concurrent use.
type Dataset interface {
	Len() int
	Info() Info
	// Gather overwrites b with the samples whose numbers are ids, growing b's slices when they are too short and
	// otherwise allocating nothing. It copies ids into b.ID.
	Gather(b *Batch, ids []int)
	// Label returns the class number of sample i, -1 when there are no classes.
	Label(i int) int
}

// Task is what there is to predict.
type Task string

// The tasks.
const (
	Classification Task = "classification"
	Regression     Task = "regression"
)

// Info describes a data set; a model is built from it.
type Info struct {
	Name    string   // for people
	Task    Task     // what there is to predict
	Dim     int      // features a sample
	Shape   []int    // of a sample, such as [28 28]; its product is Dim
	Classes int      // classification: number of classes
	Targets int      // regression: numbers to predict a sample
	Sparse  bool     // samples come as CSR rows
	Columns []string // feature names, or nil
	Fields  []int    // sparse samples of a table: the first feature of each of its columns, increasing; nil when not known
	Labels  []string // class names by number, or nil
	SHA256  string   // of the samples in order, so that workers can tell that they read the same data
}

// Batch is some samples, dense (X) or sparse (Row, Col, Val), with labels or targets. Its slices belong to the
// caller of Gather and are overwritten by the next one.
type Batch struct {
	N     int       // samples
	Dim   int       // features a sample
	ID    []int     // N sample numbers in the data set
	X     []float32 // dense: N*Dim, row-major; empty when sparse
	Row   []int     // sparse: N+1 offsets into Col and Val; empty when dense
	Col   []int32   // sparse: column numbers, increasing in a row
	Val   []float32 // sparse: values
	Ones  bool      // sparse: it is known that all of Val are 1
	Y     []float32 // regression: N*Targets, row-major
	Class []int32   // classification: N class numbers
	// Seed keys this batch's random draws (dropout): a function of the job's seed, epoch and step. A model draws
	// with rng.New(Seed, purpose, sample number), so that a draw follows its sample to whichever worker has it.
	Seed uint64
}
