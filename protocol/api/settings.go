package api

// Settings are what the owner has set: GET /v1/settings, and the answer to a
// change of them.
type Settings struct {
	Central Central `json:"central"`
}

// Central is whether the vendor of the device may say who enters.
type Central struct {
	On    bool `json:"on" doc:"what the vendor signs about who may enter counts now"`
	Fixed bool `json:"fixed,omitempty" doc:"it cannot be changed: the device's configuration takes no word of a vendor, or lets nobody refuse it"`
}

// SettingsPatch changes them: PATCH /v1/settings. What is missing stays.
type SettingsPatch struct {
	Central *bool `json:"central,omitempty" doc:"false: nothing that the vendor signs counts any more, and whoever is here by it is out"`
}
