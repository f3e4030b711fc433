"""What a net learns towards: the loss, mixed batches, class weights, a teacher."""
