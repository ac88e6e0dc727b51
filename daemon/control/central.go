package control

// Central is what the vendor may say about who enters.
type Central struct {
	On     bool     `json:"on"`             // it counts: the owner has not refused it
	Grants bool     `json:"grants"`         // grants that the basestation carries count
	Guests []string `json:"guests"`         // who is here by one; never null
	List   *List    `json:"list,omitempty"` // absent where none is configured
}

// List is the vendor's list of people.
type List struct {
	Version uint64 `json:"version"`         // the newest that was here; 0: none yet
	People  int    `json:"people"`          // of it who may enter
	Refused int    `json:"refused"`         // entries that do not count; the log says why
	Age     *int64 `json:"age,omitempty"`   // seconds since it was had; absent: not since the start
	Error   string `json:"error,omitempty"` // why it was not had the last time
}
