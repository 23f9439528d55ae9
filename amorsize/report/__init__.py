"""Reading plans: the text that tells a user what was decided and why. Changes nothing."""
