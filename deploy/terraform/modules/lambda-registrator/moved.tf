# SPDX-License-Identifier: MPL-2.0

# From hashicorp/terraform-aws-consul-lambda, whose rules and targets were in a module of their own. The other addresses are as they
# were. The README says what else the first plan after an upgrade shows.

moved {
  from = module.eventbridge.aws_cloudwatch_event_rule.this
  to   = aws_cloudwatch_event_rule.this
}

moved {
  from = module.eventbridge.aws_cloudwatch_event_target.this
  to   = aws_cloudwatch_event_target.this
}

# The predecessor would delete the repository with the images in it: here it is let go, and stays.
removed {
  from = aws_ecr_repository.lambda-registrator

  lifecycle {
    destroy = false
  }
}

check "needless_variables" {
  assert {
    condition     = !var.enable_auto_publish_ecr_image
    error_message = "enable_auto_publish_ecr_image has no effect: the registrator is a zip, no image is pulled or pushed. Leave it out."
  }
}
