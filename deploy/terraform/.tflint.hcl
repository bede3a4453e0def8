# SPDX-License-Identifier: MPL-2.0

# The rules of Terraform itself, which tflint has built in: all of them.
plugin "terraform" {
  enabled = true
  preset  = "all"
}

# Files are named for what is in them: iam.tf, events.tf, network.tf.
rule "terraform_standard_module_structure" {
  enabled = false
}
